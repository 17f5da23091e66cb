"""Texts with labels: tables read into one data set and packed into arrays of tokens."""
