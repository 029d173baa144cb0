"""The node agent: kernel maps become profile rows. It stays small: no pandas, no numpy."""
