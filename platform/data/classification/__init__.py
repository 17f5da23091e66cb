"""Images with classes: class folders, tables and MNIST's files, read into one data set and packed into arrays."""
