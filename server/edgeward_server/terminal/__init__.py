"""How words and figures look in a terminal: a command's two streams, tables, amounts. Knows no command."""
