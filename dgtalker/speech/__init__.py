"""Speech that the articulation trunk learns from: lips read off films, lips made of phones, voices made up."""
