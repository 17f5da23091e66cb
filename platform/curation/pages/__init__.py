"""The page that shows a data set."""
