using VirtBackup.Core;

namespace VirtBackup.Controller;

/// <summary>What this controller says of itself.</summary>
/// <param name="ControllerId">The repository's uuid: the repository is what a controller is.</param>
/// <param name="Version">For people.</param>
/// <param name="DialAddress"><c>host:port</c> for join tokens.</param>
/// <param name="RepositoryLocation">For people.</param>
public sealed record ControllerIdentity(Id16 ControllerId, string Version, string DialAddress, string RepositoryLocation);
