/** Commands that are there to be copied. */

import { made } from "./keyed.js";
import { copy } from "./taking.js";

/** The command as text, with its button. */
export function commandLine(command) {
  const code = Object.assign(made("code", command), { tabIndex: 0 }); // on a narrow screen it scrolls
  return Object.assign(made("div", code, copier(command)), { className: "command" });
}

/** A button that copies a command; its name says which, also to who does not see it. */
export function copier(command) {
  const button = Object.assign(made("button", "Copy"), { type: "button", title: command });
  button.ariaLabel = `Copy: ${command}`;
  button.dataset.command = command;
  button.addEventListener("click", () => {
    if (navigator.clipboard) copy(button, command);
    else prompt("Press Ctrl + C", command); // pages that are not served over TLS may not copy
  });
  return button;
}
