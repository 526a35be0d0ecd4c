"""What is drawn from measurements: contact sheets, an HTML page, model cards."""
