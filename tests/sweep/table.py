def tables(results): return ""
