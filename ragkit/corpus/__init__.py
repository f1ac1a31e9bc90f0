"""Documents and labelled questions: fetched documentation, a folder of your own, or a published test set."""
