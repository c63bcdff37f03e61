"""The page process: what the node sees and does, in a browser.  It loads no configuration and inspects nothing."""
