"""Speech that the speech backbone learns from: lips read off films, lips made of phones, voices made up."""
