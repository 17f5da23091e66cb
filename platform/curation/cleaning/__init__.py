"""Rules that find and repair faulty images and boxes."""
