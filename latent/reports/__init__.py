"""What finished and unfinished runs say: selection, tables, statistics, figures, the report page, and Weights & Biases."""
