// Follows a task by polling:  go run poll.go [TASK_ID [BASE_URL]]
// Exits with 0 when it succeeded, 1 when it failed, 3 when there is no such task.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

type Task struct {
	Status   string
	Progress float64
	Message  string
}

func main() {
	id, base := argument(1, "demo-task"), argument(2, "http://localhost:8080")
	address := base + "/api/task?task_id=" + url.QueryEscape(id)
	for {
		if err := follow(address); err != nil {
			fmt.Fprintf(os.Stderr, "%v, trying again\n", err) // the gateway may be restarting
		}
		time.Sleep(time.Second)
	}
}

func follow(address string) error {
	response, err := http.Get(address)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == 404 {
		leave(3, "There is no such task")
	}
	if response.StatusCode != 200 {
		return fmt.Errorf("HTTP %s", response.Status)
	}
	body := json.NewDecoder(response.Body)
	var task Task
	if err := body.Decode(&task); err != nil {
		return err
	}
	show(task)
	return nil
}

// show prints where the task is, and leaves once that is final.
func show(task Task) {
	fmt.Printf("%v%% %s\n", task.Progress, task.Message)
	switch strings.ToLower(task.Status) {
	case "success", "completed":
		if task.Progress >= 100 { // below 100 it is still under way
			os.Exit(0)
		}
	case "error", "failed", "cancelled":
		leave(1, "Failed: "+task.Message)
	}
}

func leave(code int, why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(code)
}

func argument(n int, otherwise string) string {
	if n < len(os.Args) {
		return os.Args[n]
	}
	return otherwise
}
