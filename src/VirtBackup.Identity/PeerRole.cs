namespace VirtBackup.Identity;

/// <summary>What the holder of a client certificate is; exactly one per certificate. Values are stable: join tokens store them.</summary>
public enum PeerRole
{
    /// <summary>A backup agent on a hypervisor host.</summary>
    Agent = 1,

    /// <summary>A person, or a program on a person's behalf, who manages the installation.</summary>
    Operator = 2,

    /// <summary>Another controller that replicates with this one.</summary>
    Peer = 3,

    /// <summary>This installation's own controller when it calls others.</summary>
    Controller = 4,
}

/// <summary>The spelling of roles and names in certificates and tokens.</summary>
public static class PeerNames
{
    /// <summary>Characters in a name: at least one, at most this many (one DNS label's length).</summary>
    public const int NameLengthMax = 63;

    /// <summary>The role as certificates spell it: lower case.</summary>
    public static string ToText(this PeerRole role) => role switch
    {
        PeerRole.Agent => "agent",
        PeerRole.Operator => "operator",
        PeerRole.Peer => "peer",
        PeerRole.Controller => "controller",
        _ => throw new ArgumentOutOfRangeException(nameof(role), role, "Not a role."),
    };

    /// <summary>Reads <see cref="ToText"/>'s spelling and no other.</summary>
    public static bool TryParseRole(string? text, out PeerRole role)
    {
        foreach (var candidate in Enum.GetValues<PeerRole>())
        {
            if (string.Equals(candidate.ToText(), text, StringComparison.Ordinal))
            {
                role = candidate;
                return true;
            }
        }
        role = default;
        return false;
    }

    /// <summary>Whether <paramref name="name"/> matches <c>[a-z0-9.-]{1,63}</c>.</summary>
    public static bool IsName([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] string? name)
    {
        if (name is not { Length: > 0 and <= NameLengthMax })
        {
            return false;
        }
        foreach (var c in name)
        {
            if (c is not ((>= 'a' and <= 'z') or (>= '0' and <= '9') or '.' or '-'))
            {
                return false;
            }
        }
        return true;
    }
}
