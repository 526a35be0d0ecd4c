"""Latent navigation: w = w_can + B_exp a_exp + B_lip a_lip. Start reading at model.py."""
