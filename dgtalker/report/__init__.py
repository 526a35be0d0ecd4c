"""What is drawn from figures: contact sheets, HTML pages, model cards."""
