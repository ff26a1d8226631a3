"""What an update costs on the wire: our patches beside zstd --patch-from, bsdiff4 and the compressed file."""
