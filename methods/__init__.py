"""The methods before SRGAN, to compare it with: filters, and earlier networks."""
