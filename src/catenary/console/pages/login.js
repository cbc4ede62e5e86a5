// The login page: sends the key in a header, and goes to the console when it is the right one.

const form = document.getElementById("login");
const key = document.getElementById("key");
const enter = document.getElementById("enter");
const error = document.getElementById("error");

try {
  const theme = localStorage.getItem("catenary.theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* storage is blocked: the system's theme */ }

// A link from another site brings no cookie (SameSite=Strict): there may be a session nevertheless.
fetch("session")
  .then((answer) => answer.json())
  .then((session) => session.is_valid && location.replace("./"), () => {});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  error.hidden = true;
  enter.disabled = true;
  try {
    const answer = await fetch("login", {
      method: "POST",
      headers: { "X-Catenary-Console": "1", Authorization: `Bearer ${asHeader(key.value)}` },
    });
    if (answer.ok) {
      location.replace("./");
      return;
    }
    const { error: reason, retry_after: seconds } = await answer.json();
    show(seconds ? `Too many wrong keys. Try again in ${seconds} s.` : answer.status === 401 ? "That is not the key." : reason);
    if (seconds) await wait(seconds);
  } catch {
    show("The server does not answer.");
  }
  enter.disabled = false;
  key.select();
  key.focus();
});

function show(text) {
  error.textContent = text;
  error.hidden = false;
}

async function wait(seconds) {
  for (let left = seconds; left > 0; left--) {
    enter.textContent = `Log in (in ${left} s)`;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  enter.textContent = "Log in";
  error.hidden = true;
}

/** Headers hold bytes: UTF-8, written as the characters of the same numbers. */
function asHeader(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}
