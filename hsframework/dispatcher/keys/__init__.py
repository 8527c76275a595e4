"""Keys and trust: from files, from the kernel's keyrings, and in the form in which agents get them."""
