"""What a run leaves behind for people and machines: report.json, junit.xml, index.html."""
