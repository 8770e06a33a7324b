using System.CommandLine;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Commands.Restores;

/// <summary>The option <c>--map-network</c>.</summary>
internal static class NetworkMappings
{
    /// <param name="belongsTo">What its description begins with; empty: it goes with everything.</param>
    public static Option<string[]> Option(string belongsTo = "")
    {
        var option = new Option<string[]>("--map-network")
        {
            Description = $"{(belongsTo.Length > 0 ? $"{belongsTo}: connect" : "Connect")} what was on the network OLD to NEW, or to nothing with NEW 'isolated' (may be repeated)",
            HelpName = "OLD=NEW", DefaultValueFactory = static _ => [],
        };
        option.Validators.Add(static result =>
        {
            foreach (var token in result.Tokens.Where(static token => token.Value.Split('=') is not [{ Length: > 0 }, { Length: > 0 }]))
            {
                result.AddError($"--map-network takes OLD=NEW; '{token.Value}' is not of that form.");
            }
        });
        return option;
    }

    public static IEnumerable<NetworkMapping> Read(ParseResult parse, Option<string[]> option) =>
        (parse.GetValue(option) ?? []).Select(static given => given.Split('=')).Select(static names => new NetworkMapping { From = names[0], To = names[1] });
}
