"""Speed: programs that print figures, and ratios that a test can hold on to."""
