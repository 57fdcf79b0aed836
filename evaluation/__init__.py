"""How pictures are measured."""
