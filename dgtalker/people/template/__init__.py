"""How maintainers make `head/template.safetensors`: `build` writes it, `landmarks` adds the face landmarks."""
