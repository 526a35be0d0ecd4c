"""From a data set to an identity. Start reading at create.py, which runs the stages.

I  inversion.py   anchor, pivots and a latent for every frame
T  tuning.py      the generator is fine-tuned on the pivots (PTI); unseen_regions.py regularises the rest
N  navigation.py  blendshapes and encoders; masks come from dgtalker/video/masks.py, losses from dgtalker/navigation
B  baking.py      the tuned generator is distilled into a baked head

regional_head.py is the head that stages N and B render; tuned_head.py loads the result of T for ablations.
"""
