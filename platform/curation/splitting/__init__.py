"""What must stay in one split, and what becomes of rare classes."""
