"""A video becomes a head: python 05_from_video_to_head.py [VIDEO] writes the data set `film` and the head `new_head`.

Some steps of everything, to show the way; leave `preset` out for a real head, which takes half an hour on two cores.
Without VIDEO the film shows one of the shipped heads.
"""

import sys
from pathlib import Path

import dgtalker as dg


def main() -> None:
    speech = Path(__file__).with_name("ljspeech-printing.flac")
    video = sys.argv[1] if len(sys.argv) > 1 else dg.load(dg.heads()[0]).render(speech, "film.mp4", camera="spiral")
    dataset = dg.preprocess(video, "film")
    head = dg.create(dataset, "new_head", preset="test")
    head.render(speech, "new_head.mp4")
    print(f"new_head was made from {dataset.frames} frames; new_head.mp4 shows it.")


if __name__ == "__main__":  # preprocess starts worker processes, which read this file, too
    try:
        main()
    except dg.UserError as error:  # for instance: MediaPipe's model of the face is not there
        print(error)
