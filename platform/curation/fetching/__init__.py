"""Reading a list of addresses and downloading its images."""
