"""What both ends of the control channel share: join token, envelope, messages."""
