"""Any image-text-to-text model of transformers, shown frames with their times."""
