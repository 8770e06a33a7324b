using System.CommandLine;

namespace VirtBackup.Cli.Commands.Restores;

/// <summary>Folders of hosts that are not this one.</summary>
internal static class HostFolder
{
    /// <param name="option">That takes the folder.</param>
    /// <param name="host">Whose folder it is: "the agent's host".</param>
    public static void RequireAbsolute(Option<string?> option, string host) => option.Validators.Add(result =>
    {
        if (result.Tokens is [{ Value: var folder }] && !folder.StartsWith('/') && !Path.IsPathFullyQualified(folder))
        {
            result.AddError($"{option.Name} must be an absolute path on {host}; '{folder}' is not.");
        }
    });
}
