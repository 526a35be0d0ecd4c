"""Real video to data set: landmarks, tracking, matte, crop, masks. Start reading at preprocess.py."""
