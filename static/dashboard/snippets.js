// Lines that follow one task from elsewhere, ready to be pasted. Pure.

// Also what encodeURIComponent leaves: a quote in an id must not end a quoted line.
const encode = (id) =>
  encodeURIComponent(id).replace(/[!'()*]/g, (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`);

export function snippets(origin, id) {
  const url = `${origin}/api/v1/tasks/${encode(id)}`;
  return [
    { name: "curl, once", text: `curl '${url}'` },
    { name: "curl, every change", text: `curl -N '${url}' -H 'Accept: text/event-stream'` },
    {
      name: "JavaScript",
      text: `const source = new EventSource("${url}");
source.onmessage = (event) => console.log(JSON.parse(event.data).payload);`,
    },
    {
      name: "Go",
      text: `request, _ := http.NewRequest("GET", "${url}", nil)
request.Header.Set("Accept", "application/x-ndjson")
response, err := http.DefaultClient.Do(request)
if err != nil {
	log.Fatal(err)
}
defer response.Body.Close()
for lines := bufio.NewScanner(response.Body); lines.Scan(); {
	fmt.Println(lines.Text())
}`,
    },
  ];
}
