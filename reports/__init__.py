"""What people read and apply: tables, files for machines, patches, pictures, the HTML report."""
