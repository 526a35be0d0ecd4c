"""Contact sheets: many small pictures on one."""
