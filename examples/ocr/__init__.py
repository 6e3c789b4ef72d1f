"""PP-OCRv4's text recognizer (PaddleOCR, Apache-2.0), judged on rendered chat messages."""
