using System.CommandLine;

namespace VirtBackup.Cli.Commands;

internal sealed class CompletionCommand : ProgramCommand
{
    private const string Bash = """
        # To load: eval "$(virtbackup completion bash)", best in ~/.bashrc.
        _virtbackup() {
          local before=${COMP_LINE:0:COMP_POINT} word cut value
          word=${before##* }
          # Bash breaks words at some characters, such as '@': what it keeps of the word must not be repeated.
          cut=${word%"${COMP_WORDS[COMP_CWORD]}"}
          # An '@' in front of the rest is replaced together with it (readline's special prefixes).
          cut=${cut%@}
          COMPREPLY=()
          while IFS= read -r value; do
            COMPREPLY+=("${value#"$cut"}")
          done < <("$1" complete "$COMP_POINT" "$COMP_LINE" 2> /dev/null)
        }
        complete -o default -F _virtbackup virtbackup
        """;

    private const string Zsh = """
        # To load: eval "$(virtbackup completion zsh)", best in ~/.zshrc after compinit.
        _virtbackup() {
          local line="virtbackup ${(j: :)words[2,CURRENT-1]}"
          (( CURRENT > 2 )) && line+=" "
          line+="${words[CURRENT]}"
          local -a values
          values=("${(@f)$("${words[1]}" complete "${#line}" "$line" 2> /dev/null)}")
          values=(${values:#})
          if (( ${#values} )); then compadd -a values; else _files; fi
        }
        compdef _virtbackup virtbackup
        """;

    private const string Fish = """
        # To load: virtbackup completion fish | source, best in ~/.config/fish/config.fish.
        function __virtbackup_complete
          set -l line "virtbackup "(string join " " -- (commandline -opc)[2..] (commandline -ct))
          virtbackup complete (string length -- "$line") "$line" 2> /dev/null
        end
        complete -c virtbackup -a "(__virtbackup_complete)"
        """;

    private readonly Argument<string> _shell = new("shell") { Description = "bash, zsh or fish" };

    public CompletionCommand(CliContext context)
        : base("completion", "Print the script that makes a shell complete this program's command lines", context)
    {
        _shell.AcceptOnlyFromAmong("bash", "zsh", "fish");
        Add(_shell);
    }

    protected override Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken)
    {
        var script = parse.GetRequiredValue(_shell) switch
        {
            "bash" => Bash,
            "zsh" => Zsh,
            _ => Fish,
        };
        Context.Terminal.Writer.Write(script.ReplaceLineEndings("\n") + "\n");
        return Task.FromResult(ExitCode.Succeeded);
    }
}
