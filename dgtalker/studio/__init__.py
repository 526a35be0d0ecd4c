"""The studio: the Gradio interface. Nothing else in the package imports Gradio."""
