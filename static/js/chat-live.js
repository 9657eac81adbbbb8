// What is only true now, on the customer's page: who is typing. chat-keeper.js loads this once there is a conversation.
const texts = __TEXTS__; // the server inserts them

const line = document.createElement("typing-line");
line.dataset.words = texts.typing;
document.querySelector(".column").append(line);
