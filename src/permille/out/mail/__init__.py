"""Mail: letters are written from objects (letters.py), sent over SMTP (smtp.py) by a job for each organization (sending.py)."""
