"""Pages for the browser: one self-contained HTML file each, which needs no network."""
