"""What an enrolled, connected agent with one int8 model costs a device, beside bare Python and Flower's SuperNode."""
