// Waits for a task as the document's example does, told instead of polling:  go run ./cmd/wait [TASK_ID [BASE_URL]]
// Exits with 0 when it succeeded, 1 when it failed, 3 when there is no such task, 2 when that cannot be known.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"example.com/taskgateway"
)

func main() {
	taskgateway.ApiHost = argument(2, taskgateway.ApiHost)
	task, err := taskgateway.WaitForCompletion(argument(1, "demo-task"), time.Second)
	if err != nil {
		fmt.Fprintf(os.Stderr, "Error: %v\n", err)
		os.Exit(code(err))
	}
	data, _ := json.MarshalIndent(task.Data, "", "  ")
	fmt.Printf("Data:\n%s\n", data)
}

func code(err error) int {
	var failed *taskgateway.FailedError
	var refused *taskgateway.HTTPError
	switch {
	case errors.As(err, &failed):
		return 1
	case errors.As(err, &refused) && refused.StatusCode == 404:
		return 3
	}
	return 2
}

func argument(n int, otherwise string) string {
	if n < len(os.Args) {
		return os.Args[n]
	}
	return otherwise
}
