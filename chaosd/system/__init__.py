"""What the operating system gives: time, processes, tasks, the files that come with chaosd."""
