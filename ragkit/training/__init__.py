"""Teaching an embedder the vocabulary of your documents: training pairs, a linear adapter, full fine-tuning."""
