"""What operators ask and do, without HTTP and without a terminal."""
