package taskgateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// What the Go example of the document has, by the same names with a capital: a program that kept it in a package of
// its own changes one import, and is told from then on.

// ApiHost is where the tasks are.
var ApiHost = "http://localhost:8080"

// TaskStatus is a task file.
type TaskStatus struct {
	Status   string                 `json:"status"`
	TaskID   string                 `json:"task_id"`
	Progress int                    `json:"progress"`
	Message  string                 `json:"message"`
	Data     map[string]interface{} `json:"data"`
}

// POWNResults is a part of the data of an import.
type POWNResults struct {
	Bank        int `json:"bank"`
	Fracked     int `json:"fracked"`
	Counterfeit int `json:"counterfeit"`
	Limbo       int `json:"limbo"`
	Errors      int `json:"errors"`
	Suspect     int `json:"suspect"`
}

// FailedError is of a task that failed. It reads as in the document.
type FailedError struct{ Message string }

func (e *FailedError) Error() string { return "task failed: " + e.Message }

// GetTaskStatus polls a task once, at ApiHost.
func GetTaskStatus(taskID string) (*TaskStatus, error) {
	return new(Client).GetTaskStatus(context.Background(), taskID)
}

// WaitForCompletion waits for a task at ApiHost, and prints each of its states. See Client.WaitForCompletion.
func WaitForCompletion(taskID string, pollInterval time.Duration) (*TaskStatus, error) {
	fmt.Printf("Waiting for task %s to complete...\n", taskID)
	show := func(task *TaskStatus) { fmt.Printf("Progress: %d%% - %s\n", task.Progress, task.Message) }
	task, err := new(Client).WaitForCompletion(context.Background(), taskID, pollInterval, show)
	if err == nil {
		fmt.Println("Task completed successfully!")
	}
	return task, err
}

// GetTaskStatus polls a task once.
func (c *Client) GetTaskStatus(ctx context.Context, taskID string) (*TaskStatus, error) {
	address, err := c.documented(taskID)
	if err != nil {
		return nil, err
	}
	a, err := c.ask(ctx, address, "application/json", "")
	if err != nil {
		return nil, err
	}
	defer a.close()
	if a.status() != http.StatusOK {
		return nil, a.failure()
	}
	body, err := a.body()
	if err != nil {
		return nil, err
	}
	return statusOf(body)
}

// WaitForCompletion returns the task once it has succeeded. Its error is a *FailedError; an *HTTPError, such as 404
// for an unknown task; or why there was no answer, or none that a TaskStatus can hold. All as in the document, but
// that a server which has answered may be away for c.Patience, and that final states which the document does not know
// end it, too. Each state is told to tell, which may be nil. The interval is that of polls, where nothing streams.
func (c *Client) WaitForCompletion(
	ctx context.Context, taskID string, pollInterval time.Duration, tell func(*TaskStatus),
) (*TaskStatus, error) {
	var last *TaskStatus
	take := func(said news) error {
		if said.Event == Invalid {
			return c.refused(ctx, taskID)
		}
		if said.Task == nil {
			return nil
		}
		task, err := statusOf(said.Task)
		if err != nil {
			return &ending{err}
		}
		last = task
		if tell != nil {
			tell(task)
		}
		return task.end()
	}
	address, err := c.documented(taskID)
	if err != nil {
		return nil, err
	}
	f := &following{Client: c, address: address, single: true, interval: pollInterval, take: take}
	f.lasting = func(err error) bool { // at once where it never answered
		return isDefinite(err) || time.Since(f.heard) > orElse(c.Patience, time.Minute)
	}
	if err := f.run(ctx); err != nil {
		return nil, err
	}
	if last.end() == nil { // final by a rule that the gateway knows, such as a success without a progress
		return c.judged(ctx, taskID, last)
	}
	return last, nil
}

// refused ends what waits for a file that cannot be shown, unless polls go on showing its last good state.
func (c *Client) refused(ctx context.Context, taskID string) error {
	if _, err := c.GetTaskStatus(ctx, taskID); isDefinite(err) {
		return &ending{err}
	}
	return nil
}

// judged returns a task that has ended as v1 sees it.
func (c *Client) judged(ctx context.Context, taskID string, task *TaskStatus) (*TaskStatus, error) {
	seen, err := c.Watch(ctx, taskID, nil)
	if err == nil && seen.Status == "error" {
		err = &FailedError{seen.Message}
	}
	if err != nil {
		return nil, err
	}
	return task, nil
}

func (c *Client) documented(taskID string) (string, error) {
	return c.address("/api/task?task_id=", url.QueryEscape(taskID))
}

func statusOf(body []byte) (*TaskStatus, error) {
	var task TaskStatus
	if err := json.Unmarshal(body, &task); err != nil {
		return nil, err
	}
	return &task, nil
}

// end is an *ending where the task has ended. The document knows success and error.
func (t *TaskStatus) end() error {
	switch strings.ToLower(strings.TrimSpace(t.Status)) {
	case "success", "completed":
		if t.Progress >= 100 { // below it is still under way
			return &ending{}
		}
	case "error", "failed", "cancelled":
		return &ending{&FailedError{t.Message}}
	}
	return nil
}

// isDefinite tells of answers that end the document's loop and are no passing trouble of a server or proxy: 500 is
// what it says of a file that it cannot show.
func isDefinite(err error) bool {
	var refusal *HTTPError
	return errors.As(err, &refusal) && (!refusal.passing() || refusal.StatusCode == http.StatusInternalServerError)
}
