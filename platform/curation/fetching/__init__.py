"""Reading of address lists and download of their images."""
