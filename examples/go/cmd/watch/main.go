// Follows a task, or everything:  go run ./cmd/watch [-url BASE_URL] [-after CURSOR] [TASK_ID]
//
// Of a task it prints each state, and exits with 0 when it succeeded, 1 when it failed, 3 when there is no such task.
// Of everything it prints each event as JSON; after the cursor of one it can go on. It exits with 2 for what will not
// pass by itself.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"example.com/taskgateway"
)

func main() {
	url := flag.String("url", taskgateway.ApiHost, "the gateway")
	after := flag.String("after", "", "a cursor to go on after")
	heartbeat := flag.Duration("heartbeat", 15*time.Second, "the gateway's")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	lost := func(err error, pause time.Duration) {
		fmt.Fprintf(os.Stderr, "%v, trying again in %v\n", err, pause.Round(time.Millisecond))
	}
	client := &taskgateway.Client{URL: *url, Heartbeat: *heartbeat, Lost: lost}
	var err error
	if flag.NArg() == 0 {
		say := json.NewEncoder(os.Stdout)
		err = client.WatchAll(ctx, *after, func(event taskgateway.Event) error { return say.Encode(event) })
	} else {
		err = one(ctx, client, flag.Arg(0))
	}
	if err != nil {
		leave(err)
	}
}

var errFailed = errors.New("failed")

func one(ctx context.Context, client *taskgateway.Client, id string) error {
	show := func(task taskgateway.Task) { fmt.Printf("%d%% %s\n", task.Progress, task.Message) }
	task, err := client.Watch(ctx, id, show)
	if err == nil && task.Status == "error" {
		return fmt.Errorf("%w: %s", errFailed, task.Message)
	}
	return err
}

func leave(err error) {
	fmt.Fprintln(os.Stderr, err)
	switch {
	case errors.Is(err, errFailed):
		os.Exit(1)
	case errors.Is(err, taskgateway.ErrUnknown):
		os.Exit(3)
	case errors.Is(err, context.Canceled):
		os.Exit(130)
	}
	os.Exit(2)
}
