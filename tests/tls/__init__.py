"""TLS as bytes in and bytes out, against clients that we did not write."""
