"""Heads in the browser: what a page needs to draw them by itself, without a server.

pack.py    one binary file of a head, read by the renderer
script.py  the renderer: the ES modules in assets/ as one
player.py  one self-contained HTML file in which a head says a sound
"""
