"""What only training stands on."""
