"""What study.py needs: making a study, showing it to raters, and evaluating their answers."""
